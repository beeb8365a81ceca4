"""Narrow stories: each is about one situation, which only one guard gets right.

They have few intents, so a run is short and meets its situation almost every time. The wide
profiles have the same steps among many others.
"""

from __future__ import annotations

from tests.simulation.story import Profile

NARROW: tuple[Profile, ...] = (
    Profile("lost answers", (2, 4), {"lost_and_mute": 3.0}, deadlines=(120,), markets=1.0),
    Profile("early answers", (2, 4), {"early_answer": 3.0}, deadlines=(120,), markets=1.0),
    Profile("stopped senders", (2, 3), {"late_sender": 3.0}, deadlines=(120,), is_warm=True),
    Profile("amended unseen", (2, 3), {"lost_and_amended": 3.0}, deadlines=(120,), markets=0.0),
    Profile("lost in flight", (1, 2), {"lost_in_flight": 1.4}, deadlines=(120,), markets=1.0),
    Profile("lost claims", (2, 4), {"lost_claim": 1.4}, deadlines=(120,), markets=1.0),
    Profile(
        "said twice", (2, 3), {"claim_stop": 4.0}, markets=1.0, repeats=1.0, pauses=(0.0, 0.001)
    ),
    Profile("placed twice", (3, 4), {"claim_stop": 5.0, "placed_twice": 5.0}, ways=("record",)),
    Profile(
        "crowds",
        (8, 10),
        {"claim_stop": 4.0},
        markets=0.0,
        bursts=0.8,
        open_orders=(1, 2),
        is_warm=True,
    ),
    Profile("halted claims", (2, 3), {"halt_in_claim": 2.0}),
    Profile("little money", (8, 10), bursts=0.9, is_poor=True),
    Profile("late words", (3, 4), {"late_word": 3.0, "fill": 4.0, "cancel": 2.0}, markets=0.0),
    Profile("lost events", (2, 4), {"stream_fault": 5.0, "fill": 5.0}, markets=0.0),
    Profile("names again", (3, 4), {"hand_reuse": 5.0}, markets=1.0),
    Profile("new account", (2, 3), {"new_account": 0.99, "crash": 3.0, "call_fault": 2.0}),
    Profile("early cancels", (3, 4), {"early_cancel": 4.0}),
    Profile("lost cancels", (3, 4), {"cancel_fault": 5.0, "cancel": 5.0}, markets=0.0),
    Profile("short outages", (3, 4), {"database_away": 2.0}),
    Profile("counted again", (10, 14), {"late_reset": 0.99}),
    Profile(
        "another grid",
        (2, 4),
        {"lost_claim": 1.4, "symbol_rules": 4.0},
        deadlines=(120,),
        markets=0.5,
        is_odd=True,
    ),
    Profile(
        "held on another grid",
        (3, 5),
        {"symbol_rules": 4.0, "call_fault": 1.0},
        deadlines=(30, 120),
        review_above="300",
        is_odd=True,
    ),
    Profile("gone symbols", (4, 6), {"symbol_gone": 2.0, "call_fault": 4.0, "lost_and_mute": 0.7}),
    Profile(
        "migrations",
        (8, 10),
        {"migration": 4.0, "claim_stop": 2.0, "call_fault": 1.0},
        bursts=0.5,
        is_warm=True,
    ),
    Profile(
        "turned back clocks",
        (3, 4),
        {"exchange_step": 3.0, "lost_and_amended": 1.4, "lost_and_mute": 1.4},
        deadlines=(120,),
        markets=0.5,
    ),
    Profile(
        "leaping clocks",
        (2, 3),
        {"exchange_leap": 2.0, "lag": 3.0, "lost_and_mute": 3.0},
        deadlines=(120,),
        markets=1.0,
        breaks_assumptions=True,
    ),
    Profile("overtaken", (1, 2), {"overtaken": 0.999}, deadlines=(120,), is_warm=True),
    Profile("lost and forgotten", (1, 2), {"lost_and_forgotten": 0.999}, is_warm=True),
    Profile(
        "silent broker",
        (1, 2),
        {"silent_broker": 0.999},
        is_warm=True,
        sizes={"orders.due:BATCH": 2},
    ),
    Profile(
        "canceled holds",
        (3, 4),
        {"request_cancels": 0.999},
        markets=0.0,
        deadlines=(600,),
        review_above="50",
    ),
    Profile("refused keys", (3, 4), {"key_refused": 2.0, "halt": 2.0}),
    Profile("new rules", (6, 9), {"new_rules": 0.999}, bursts=0.95, is_warm=True, is_odd=True),
    Profile("late tables", (4, 6), {"late_table": 2.0, "cancel": 2.0, "fill": 2.0}),
    Profile("late", (3, 4), {"exchange_away": 2.0}, deadlines=(2, 3)),
    Profile("notices", (2, 3), {"broker_away": 2.0, "fill": 5.0}, markets=0.0, notifies=True),
    Profile(
        "doubles",
        (2, 3),
        {"long_lag": 1.4, "lost_and_mute": 3.0},
        deadlines=(120,),
        markets=0.0,
        breaks_assumptions=True,
    ),
)
