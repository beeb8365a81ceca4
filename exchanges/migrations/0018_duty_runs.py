import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('exchanges', '0017_instruments_by_assets'),
    ]

    operations = [
        migrations.CreateModel(
            name='DutyRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('duty', models.CharField(max_length=64, verbose_name='duty')),
                ('ran_at', models.DateTimeField(verbose_name='ran at')),
                ('account', models.ForeignKey(db_index=False, help_text='Empty if the run was for all accounts.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='duty_runs', to='exchanges.exchangeaccount', verbose_name='account')),
            ],
            options={
                'verbose_name': 'duty',
                'verbose_name_plural': 'duties',
                'ordering': ('duty', 'account'),
                'constraints': [models.UniqueConstraint(fields=('duty', 'account'), name='duty_run_unique', nulls_distinct=False)],
            },
        ),
    ]
