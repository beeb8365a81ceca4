"""Ring the open pages in the transaction of a change.

A commit with a NOTIFY waits for every other one, so a burst of orders must not notify one by one.
Within 100 ms after a bell the trigger only counts, in a sequence that needs no commit. The web
process asks for this count a moment after each bell (`backoffice.desk.live.bell`).
"""

from __future__ import annotations

from django.db import migrations

ORDERS = """
CREATE SEQUENCE desk_rung_at_ms MINVALUE 0 START 0;
CREATE SEQUENCE desk_unrung;

CREATE FUNCTION desk_ring_orders() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    now_ms bigint := extract(epoch FROM clock_timestamp()) * 1000;
    rung_at_ms bigint;
BEGIN
    SELECT last_value INTO rung_at_ms FROM desk_rung_at_ms;
    -- A clock that was set back must not silence the bell.
    IF abs(now_ms - rung_at_ms) < 100 THEN
        PERFORM nextval('desk_unrung');
    ELSE
        PERFORM setval('desk_rung_at_ms', now_ms);
        NOTIFY desk, 'orders';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER desk_ring AFTER INSERT ON orders_orderevent
    FOR EACH ROW EXECUTE FUNCTION desk_ring_orders();
"""

# These change rarely, so each change may notify.
OTHERS = """
CREATE FUNCTION desk_ring() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('desk', TG_ARGV[0]);
    RETURN NULL;
END $$;

CREATE TRIGGER desk_ring AFTER INSERT OR UPDATE ON orders_reconciliationbreak
    FOR EACH STATEMENT EXECUTE FUNCTION desk_ring('breaks');
CREATE TRIGGER desk_ring AFTER INSERT OR UPDATE ON exchanges_exchangeaccount
    FOR EACH STATEMENT EXECUTE FUNCTION desk_ring('accounts');
CREATE TRIGGER desk_ring AFTER INSERT OR UPDATE ON exchanges_tradinghalt
    FOR EACH STATEMENT EXECUTE FUNCTION desk_ring('accounts');
"""

UNDO = """
DROP TRIGGER desk_ring ON exchanges_tradinghalt;
DROP TRIGGER desk_ring ON exchanges_exchangeaccount;
DROP TRIGGER desk_ring ON orders_reconciliationbreak;
DROP TRIGGER desk_ring ON orders_orderevent;
DROP FUNCTION desk_ring();
DROP FUNCTION desk_ring_orders();
DROP SEQUENCE desk_unrung;
DROP SEQUENCE desk_rung_at_ms;
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("exchanges", "0016_lease_changes"),
        ("orders", "0020_permission_to_mark_symbols_gone"),
    ]

    operations = [migrations.RunSQL([ORDERS, OTHERS], UNDO)]
