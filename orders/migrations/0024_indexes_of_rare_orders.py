
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('exchanges', '0016_lease_changes'),
        ("orders", "0023_ids_compare_by_bytes"),
    ]

    operations = [
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('status__in', ['DENIED', 'NOT_PLACED', 'REJECTED'])), fields=['-created_at', '-id'], name='order_refused'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('is_external', True)), fields=['-created_at', '-id'], name='order_external'),
        ),
    ]
