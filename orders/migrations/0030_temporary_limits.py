
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('exchanges', '0021_key_times'),
        ('orders', '0029_result_samples'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='risklimit',
            name='risk_limit_unique_scope',
        ),
        migrations.AddField(
            model_name='risklimit',
            name='until',
            field=models.DateTimeField(blank=True, help_text='Leave empty for a lasting limit. A temporary limit replaces the lasting one of its scope and currency until then.', null=True, verbose_name='until'),
        ),
        migrations.AddConstraint(
            model_name='risklimit',
            constraint=models.UniqueConstraint(fields=('account', 'symbol', 'strategy', 'currency', 'until'), name='risk_limit_unique_scope', nulls_distinct=False),
        ),
    ]
