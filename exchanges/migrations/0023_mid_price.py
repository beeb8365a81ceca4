from django.db import migrations, models

import exchanges.fields


class Migration(migrations.Migration):

    dependencies = [
        ('exchanges', '0022_no_doubled_indexes'),
    ]

    operations = [
        migrations.CreateModel(
            name='MidPrice',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('exchange', models.CharField(max_length=32)),
                ('environment', models.CharField(choices=[('live', 'live'), ('testnet', 'testnet'), ('simulator', 'simulator')], max_length=16)),
                ('symbol', models.CharField(max_length=32)),
                ('bid', exchanges.fields.ExactDecimalField()),
                ('ask', exchanges.fields.ExactDecimalField()),
                ('asked_at', models.DateTimeField(help_text='When we asked for them, by our clock.')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('exchange', 'environment', 'symbol'), name='mid_price_unique_symbol')],
            },
        ),
    ]
