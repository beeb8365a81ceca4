"""Show lists of millions of rows: columns, filters, search, paging, saved views and exports."""
