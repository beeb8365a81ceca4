
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('people', '0009_draft_titles'),
    ]

    operations = [
        migrations.AlterField(
            model_name='changedraft',
            name='kind',
            field=models.CharField(choices=[('order', 'an order'), ('resume', 'resuming trading'), ('limit', 'a looser limit'), ('grant', 'an account grant'), ('live', 'a live account'), ('rule', 'a narrower rule'), ('key', 'resuming despite an unsafe key')], max_length=16, verbose_name='kind of act'),
        ),
    ]
