from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('orders', '0025_held_orders'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='fill',
            name='fill_unique_trade_id',
        ),
        migrations.AddConstraint(
            model_name='fill',
            constraint=models.UniqueConstraint(fields=('account', 'symbol', 'trade_id', 'side', 'epoch'), name='fill_unique_trade_id'),
        ),
    ]
