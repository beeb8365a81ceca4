
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('orders', '0031_realized'),
    ]

    operations = [
        migrations.AlterField(
            model_name='reviewrule',
            name='kind',
            field=models.CharField(choices=[('order', 'an order'), ('resume', 'resuming trading'), ('limit', 'a looser limit'), ('grant', 'an account grant'), ('live', 'a live account'), ('rule', 'a narrower rule'), ('key', 'resuming despite an unsafe key')], default='order', help_text='Symbol, strategy and value are for orders only.', max_length=16, verbose_name='kind of act'),
        ),
    ]
