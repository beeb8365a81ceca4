from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('orders', '0009_fewer_indexes'),
    ]

    operations = [
        migrations.RenameField(
            model_name='ordernotice',
            old_name='taken_until',
            new_name='claimed_until',
        ),
        migrations.RenameModel(
            old_name='BrokenPlacing',
            new_name='PlacementOutage',
        ),
    ]
