
import django.db.models.deletion
from django.db import migrations, models

import exchanges.clock


class Migration(migrations.Migration):

    dependencies = [
        ('exchanges', '0020_scoped_halt'),
        ('people', '0007_linked_logins'),
    ]

    operations = [
        migrations.CreateModel(
            name='ChangeDraft',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('order', 'an order'), ('resume', 'resuming trading'), ('limit', 'a looser limit'), ('grant', 'an account grant'), ('live', 'a live account'), ('key', 'resuming despite an unsafe key')], max_length=16, verbose_name='kind of act')),
                ('subject', models.CharField(max_length=200, verbose_name='record')),
                ('act', models.CharField(max_length=16)),
                ('target', models.CharField(max_length=100)),
                ('target_key', models.CharField(blank=True, default='', max_length=64)),
                ('proposed', models.JSONField(default=dict)),
                ('seen', models.CharField(blank=True, default='', max_length=64)),
                ('before', models.JSONField(default=dict, verbose_name='before')),
                ('after', models.JSONField(default=dict, verbose_name='after')),
                ('reason', models.TextField(verbose_name='reason')),
                ('maker', models.CharField(max_length=150, verbose_name='maker')),
                ('made_at', models.DateTimeField(default=exchanges.clock.now, verbose_name='made at')),
                ('expires_at', models.DateTimeField(verbose_name='expires at')),
                ('state', models.CharField(choices=[('waiting', 'waits for a second person'), ('published', 'published'), ('rejected', 'rejected'), ('expired', 'expired'), ('overtaken', 'overtaken by another change')], default='waiting', max_length=16, verbose_name='state')),
                ('checker', models.CharField(blank=True, default='', max_length=150, verbose_name='second person')),
                ('decided_at', models.DateTimeField(blank=True, null=True, verbose_name='decided at')),
                ('decision', models.TextField(blank=True, default='', verbose_name='reason of the second person')),
                ('account', models.ForeignKey(blank=True, help_text="Empty: all accounts, or one that doesn't exist yet.", null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='exchanges.exchangeaccount', verbose_name='account')),
            ],
            options={
                'verbose_name': 'draft',
                'verbose_name_plural': 'drafts',
                'ordering': ('-id',),
                'permissions': [('publish_changedraft', 'Can publish or reject drafts')],
                'indexes': [models.Index(condition=models.Q(('state', 'waiting')), fields=['expires_at'], name='draft_waiting')],
            },
        ),
    ]
