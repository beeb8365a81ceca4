
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('orders', '0027_index_of_waiting_orders'),
    ]

    operations = [
        migrations.AlterField(
            model_name='reviewrule',
            name='kind',
            field=models.CharField(choices=[('order', 'an order'), ('resume', 'resuming trading'), ('limit', 'a looser limit'), ('grant', 'an account grant'), ('live', 'a live account'), ('key', 'resuming despite an unsafe key')], default='order', help_text='Symbol, strategy and value are for orders only.', max_length=16, verbose_name='kind of act'),
        ),
    ]
