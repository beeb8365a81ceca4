

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='SavedView',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('page', models.CharField(help_text="The list's model, such as orders.order.", max_length=64)),
                ('name', models.CharField(blank=True, default='', max_length=60, verbose_name='name')),
                ('query', models.TextField(blank=True, default='', help_text='The filters, as in the address.')),
                ('columns', models.JSONField(default=list, help_text='Names of columns. Empty: the usual ones.')),
                ('person', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'default_permissions': (),
                'constraints': [models.UniqueConstraint(fields=('person', 'page', 'name'), name='saved_view_unique_name')],
            },
        ),
    ]
