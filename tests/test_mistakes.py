"""Mistakes that gateways for plugins are known to make, and the tests by which this one does not."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MISTAKES = {
    "a reload revives a revoked plugin": (
        "flows/test_reload_plugin.py::test_a_reload_changes_nothing_of_a_plugin_that_is_not_active",
        "flows/test_reload_plugin.py::test_what_is_taken_away_at_any_moment_of_a_reload_stays_away",
        "domain/test_values.py::test_no_state_leads_back_from_revoked",
    ),
    "the state changes before the log is written": (
        "flows/test_taking_away.py::test_nothing_is_given_that_could_not_be_recorded",
        "flows/test_permissions.py::test_an_approval_that_cannot_be_finished_is_undone_and_its_record_corrected",
    ),
    "anyone can approve": (
        "flows/test_lifecycle.py::test_not_everybody_can_approve",
        "flows/test_lifecycle.py::test_four_eyes_are_two_people",
        "flows/test_call_approval.py::test_nobody_approves_a_call_of_their_own",
    ),
    "an omitted scope means any": (
        "flows/test_lifecycle.py::test_what_names_no_scope_is_granted_nothing",
        "facade/test_answers.py::test_no_scope_is_never_any_scope",
    ),
    "an end that cannot be read means for ever": (
        "flows/test_permissions.py::test_a_wish_that_cannot_be_understood_is_not_queued",
        "flows/test_permissions.py::test_nothing_is_granted_that_was_not_asked_for",
        "flows/test_call_approval.py::test_a_time_that_cannot_be_meant_is_refused",
    ),
    "unknown conditions are passed over": (
        "registry/test_manifest.py::test_a_mistake_is_named_with_its_place",
        "flows/test_import_grants.py::test_a_failed_import_changes_nothing",
    ),
    "the risk falls when permissions are added": ("policy/test_score.py::test_holding_more_never_scores_less",),
    "a failed import wipes all grants": ("flows/test_import_grants.py::test_a_failed_import_changes_nothing",),
    "the author's own approval is believed": (
        "flows/test_lifecycle.py::test_what_the_author_claims_of_approval_is_not_believed",
        "flows/test_automatic.py::test_what_the_author_says_grants_nothing",
    ),
    "admin is granted automatically": (
        "policy/test_approval.py::test_whatever_the_entries_say_admin_asks_a_person_and_execute_is_for_one_alone",
        "flows/test_automatic.py::test_admin_levels_and_what_two_must_approve_are_never_automatic",
    ),
    "hooks and handlers are kept and never run": (
        "flows/test_hooks.py::test_every_event_of_a_life_calls_its_hook_after_it_is_in_force",
        "facade/test_house.py::test_handlers_hear_of_lifecycle_events",
    ),
    "a revocation ends nothing that runs": (
        "flows/test_lifecycle.py::test_revocation_waits_for_no_broken_file_and_kills_what_runs",
        "flows/test_taking_away.py::test_it_denies_at_once_at_a_hundred_thousand_rules",
    ),
    "a benchmark measures something else than calls": (
        "flows/test_benchmark.py::test_an_active_benchmark_measures_calls_that_are_recorded_like_any_other",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_it_is_not_made_here(mistake: str) -> None:
    for name in MISTAKES[mistake]:
        file, _, test = name.partition("::")
        found = ast.walk(ast.parse((TESTS / file).read_text("utf-8")))
        assert test in {each.name for each in found if isinstance(each, ast.FunctionDef)}, name
