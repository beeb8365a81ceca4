UPDATE exchanges_balance SET reserved = reserved + %(amount)s::numeric
 WHERE account_id = %(account)s::bigint AND asset = %(asset)s::text
   AND free - reserved >= %(amount)s::numeric
