"""Remove the tables, permissions and pages of the schedule that people could edit.

The schedule is code now (`CELERY_BEAT_SCHEDULE`), and the package that kept the tables is gone.
"""

from typing import Any

from django.db import migrations

APP = "django_celery_beat"
TABLES = ("periodictask", "periodictasks", "intervalschedule", "crontabschedule", "solarschedule", "clockedschedule")
DROP = f"DROP TABLE IF EXISTS {', '.join(f'{APP}_{table}' for table in TABLES)}"


def forget_models(apps: Any, schema_editor: Any) -> None:
    apps.get_model("contenttypes", "ContentType").objects.filter(app_label=APP).delete()


class Migration(migrations.Migration):

    dependencies = [
        ("exchanges", "0018_duty_runs"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("admin", "0003_logentry_add_action_flag_choices"),
    ]

    operations = [
        migrations.RunSQL(DROP, migrations.RunSQL.noop),
        migrations.RunSQL("DELETE FROM django_migrations WHERE app = 'django_celery_beat'", migrations.RunSQL.noop),
        migrations.RunPython(forget_models, migrations.RunPython.noop),
    ]
