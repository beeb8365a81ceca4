from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('exchanges', '0023_mid_price'),
        ('orders', '0033_no_doubled_indexes'),
    ]

    operations = [
        migrations.AddField(
            model_name='exchangeorder',
            name='arrival_price_source',
            field=models.CharField(blank=True, db_default='', default='', max_length=16),
        ),
    ]
