"""A budget that may be too small: when a start is refused, and what would let it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from labelfusion.config import BudgetConfig
from labelfusion.costing import RunEstimate, judge
from labelfusion.costs import estimate
from labelfusion.ui import budget
from tests.test_estimate import PLAN

EXPECTED = estimate([PLAN]).expected.usd
AT_MOST = estimate([PLAN]).at_most.usd


def found(left, config):
    estimated = estimate([PLAN], left)
    return RunEstimate(10, estimated, (), "prices", judge(estimated, left, config))


def refusal(run=None, month=None, spent=0, chosen=None):
    config = BudgetConfig(run_usd=run, month_usd=month)
    limits = [run, None if month is None else month - spent]
    left = min((Decimal(repr(limit)) for limit in limits if limit is not None), default=None)
    return budget.refusal(found(left, config), config, chosen)


def test_no_budget_and_one_that_is_enough_are_accepted():
    assert refusal() is None
    assert refusal(run=float(AT_MOST)) is None


def test_what_is_expected_and_a_quarter_more_is_enough_though_the_bound_is_far_above():
    likely = float(EXPECTED) * 1.25
    assert likely < AT_MOST / 50
    assert refusal(run=likely) is None
    assert refusal(run=likely - 0.0001) is not None


@pytest.mark.parametrize("run", [0.0, 0.01, float(EXPECTED)])
def test_a_budget_that_may_well_be_spent_is_refused_until_someone_says_what_then(run):
    refused = refusal(run=run)
    assert refused.limit == "run_usd"
    assert "spent before every text" in str(refused.error)
    assert budget.money(EXPECTED) in refused.error.expected
    assert "Limit a run" in refused.error.remedy
    assert refusal(run=float(refused.enough)) is None
    for way in budget.WHEN_SPENT:
        assert refusal(run=run, chosen=way) is None


def test_what_the_month_has_spent_already_is_added_to_its_limit():
    refused = refusal(month=5.0, spent=4.99)
    assert refused.limit == "month_usd"
    assert refusal(month=float(refused.enough), spent=4.99) is None
    assert refusal(month=float(refused.enough) - 0.01, spent=4.99) is not None


def test_the_limit_with_the_least_left_is_the_one_in_the_way():
    assert refusal(run=1.0, month=5.0, spent=4.99).limit == "month_usd"
    assert refusal(run=0.01, month=5.0, spent=4.9).limit == "run_usd"
