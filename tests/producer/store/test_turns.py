"""Turns over both databases."""

from __future__ import annotations

from tests.producer.store.databases import OnPostgreSQL, OnSQLite
from tests.producer.store.turns_conformance import TurnsConformance


class TestSQLite(OnSQLite, TurnsConformance):
    """The store of one machine."""


class TestPostgreSQL(OnPostgreSQL, TurnsConformance):
    """The store of many machines."""
