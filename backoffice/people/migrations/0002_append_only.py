"""Refuse changes to the journal, to the events of orders and to fills.

The triggers bind every role, also the owner of the tables. A migration that must change such rows
disables them with ALTER TABLE … DISABLE TRIGGER, which only the owner may do.
"""

from django.db import migrations

FUNCTIONS = """
CREATE FUNCTION people_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% of % is refused: its rows stay as they are', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege';
END $$;

-- Events and fills may move to the order that a reconciliation has found them to belong to.
CREATE FUNCTION people_refuse_all_but_a_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF to_jsonb(NEW) - 'order_id' - 'exchange_order_id'
     IS DISTINCT FROM to_jsonb(OLD) - 'order_id' - 'exchange_order_id' THEN
    RAISE EXCEPTION 'UPDATE of % is refused: its rows stay as they are', TG_TABLE_NAME
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END $$;

CREATE FUNCTION people_refuse_a_step_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.position <= OLD.position THEN
    RAISE EXCEPTION 'UPDATE of % is refused: the end of the journal only moves on', TG_TABLE_NAME
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END $$;
"""

TABLES = {
    "people_journalentry": "people_refuse_change",
    "people_journalhead": "people_refuse_a_step_back",
    "orders_orderevent": "people_refuse_all_but_a_move",
    "orders_fill": "people_refuse_all_but_a_move",
}

TRIGGERS = "".join(
    f"""
CREATE TRIGGER refuse_update BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {update}();
CREATE TRIGGER refuse_delete BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION people_refuse_change();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON {table} EXECUTE FUNCTION people_refuse_change();
"""
    for table, update in TABLES.items()
)
BACK = "".join(
    f"DROP TRIGGER refuse_update ON {table}; DROP TRIGGER refuse_delete ON {table}; DROP TRIGGER refuse_truncate ON {table};\n"
    for table in TABLES
) + "DROP FUNCTION people_refuse_change(); DROP FUNCTION people_refuse_all_but_a_move(); DROP FUNCTION people_refuse_a_step_back();"


class Migration(migrations.Migration):

    dependencies = [
        ('people', '0001_journal'),
        ('orders', '0020_permission_to_mark_symbols_gone'),
    ]

    operations = [migrations.RunSQL(FUNCTIONS + TRIGGERS, BACK)]
