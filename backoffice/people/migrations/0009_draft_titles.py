
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('exchanges', '0021_key_times'),
        ('people', '0008_drafts'),
    ]

    operations = [
        migrations.AddField(
            model_name='changedraft',
            name='title',
            field=models.CharField(blank=True, default='', max_length=255, verbose_name='about'),
        ),
        migrations.AlterField(
            model_name='changedraft',
            name='account',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='exchanges.exchangeaccount', verbose_name='account'),
        ),
        migrations.AlterField(
            model_name='changedraft',
            name='maker',
            field=models.CharField(max_length=150, verbose_name='made by'),
        ),
    ]
