"""Put every table back as the migrations left it, after a test that commits.

Django's own way truncates all tables and makes each content type, permission and role again, which
takes longer than most tests. Here the few rows that the migrations make are kept as copies in a
schema of their own, and only what a test has changed is put back. Keys stay the same.
"""

from __future__ import annotations

from django.db import connection

_KEEP = """
DO $$
DECLARE name text; has_rows boolean;
BEGIN
  DROP SCHEMA IF EXISTS pristine CASCADE;
  CREATE SCHEMA pristine;
  FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', name) INTO has_rows;
    IF has_rows AND name <> 'django_migrations' THEN
      EXECUTE format('CREATE TABLE pristine.%1$I AS TABLE public.%1$I', name);
    END IF;
  END LOOP;
END $$
"""

# As a replica, the server skips foreign keys and the triggers that protect the journal.
_PUT_BACK = """
DO $$
DECLARE name text; is_changed boolean; changed text;
BEGIN
  PERFORM set_config('session_replication_role', 'replica', true);
  FOR name IN
    SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'django_migrations'
    EXCEPT SELECT tablename FROM pg_tables WHERE schemaname = 'pristine'
  LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', name) INTO is_changed;
    IF is_changed THEN
      changed := concat_ws(', ', changed, format('public.%I', name));
    END IF;
  END LOOP;
  IF changed IS NOT NULL THEN
    EXECUTE 'TRUNCATE ' || changed || ' CASCADE';
  END IF;
  FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'pristine' LOOP
    EXECUTE format(
      'SELECT EXISTS (TABLE public.%1$I EXCEPT TABLE pristine.%1$I)
           OR EXISTS (TABLE pristine.%1$I EXCEPT TABLE public.%1$I)', name) INTO is_changed;
    IF is_changed THEN
      EXECUTE format('DELETE FROM public.%I', name);
      EXECUTE format('INSERT INTO public.%1$I TABLE pristine.%1$I', name);
    END IF;
  END LOOP;
END $$
"""


def keep_rows() -> None:
    """Keep copies of the rows that the migrations have made."""
    with connection.cursor() as cursor:
        cursor.execute(_KEEP)


def put_back_rows() -> None:
    """Empty the tables that a test has filled, and put the kept rows back."""
    with connection.cursor() as cursor:
        cursor.execute(_PUT_BACK)
