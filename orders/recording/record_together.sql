-- Store the changes of several orders, each with its attempt, fills, events and notices to bots.
-- An order that has changed since it was read is left out with all its rows. Rows are locked in the
-- sequence of the orders' keys, and inserted in the sequence in which they are given.
WITH mine AS MATERIALIZED (
    SELECT o.id
      FROM orders_order o
      JOIN json_to_recordset(%(versions)s::json) AS w(id uuid, version integer)
        ON o.id = w.id AND o.version = w.version
     ORDER BY o.id
       FOR NO KEY UPDATE OF o
), changed AS (
    UPDATE orders_order t SET {order_changes}
      FROM mine, json_populate_recordset(NULL::orders_order, %(orders)s::json) AS c
     WHERE t.id = mine.id AND c.id = mine.id
    RETURNING t.id
), attempts AS (
    UPDATE orders_exchangeorder t SET {attempt_changes}
      FROM changed, json_populate_recordset(NULL::orders_exchangeorder, %(attempts)s::json) AS c
     WHERE t.id = c.id AND c.order_id = changed.id
), fills AS (
    INSERT INTO orders_fill ({fill_columns})
    SELECT {fill_columns}
      FROM json_populate_recordset(NULL::orders_fill, %(fills)s::json) WITH ORDINALITY
     WHERE order_id IN (SELECT id FROM changed) ORDER BY ordinality
), events AS (
    INSERT INTO orders_orderevent ({event_columns})
    SELECT {event_columns}
      FROM json_populate_recordset(NULL::orders_orderevent, %(events)s::json) WITH ORDINALITY
     WHERE order_id IN (SELECT id FROM changed) ORDER BY ordinality
), notices AS (
    INSERT INTO orders_ordernotice ({notice_columns})
    SELECT {notice_columns}
      FROM json_populate_recordset(NULL::orders_ordernotice, %(notices)s::json) WITH ORDINALITY
     WHERE order_id IN (SELECT id FROM changed) ORDER BY ordinality
), handed_over AS (
    UPDATE exchanges_reservation t SET due_at = c.due_at
      FROM changed, json_to_recordset(%(handed_over)s::json)
                        AS c(order_id uuid, reference text, due_at timestamptz)
     WHERE c.order_id = changed.id AND t.account_id = %(account)s::bigint
       AND t.reference = c.reference AND t.due_at IS NULL
    RETURNING t.reference
)
SELECT (SELECT coalesce(json_agg(id), '[]') FROM changed),
       (SELECT coalesce(json_agg(reference), '[]') FROM handed_over)
