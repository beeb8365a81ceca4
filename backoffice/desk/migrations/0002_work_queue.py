
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import exchanges.clock


class Migration(migrations.Migration):

    dependencies = [
        ('desk', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='WorkItem',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(max_length=80, unique=True)),
                ('taken_at', models.DateTimeField(null=True)),
                ('owner', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'work item',
                'verbose_name_plural': 'work queue',
                'permissions': [('work', 'Can take, hand over and note work items')],
                'default_permissions': ('view',),
            },
        ),
        migrations.CreateModel(
            name='WorkNote',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField(default=exchanges.clock.now)),
                ('author', models.CharField(max_length=150)),
                ('text', models.TextField(max_length=1000)),
                ('item', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='notes', to='desk.workitem')),
            ],
            options={
                'ordering': ('at', 'id'),
                'default_permissions': (),
            },
        ),
    ]
