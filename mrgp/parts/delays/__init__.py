"""Delays: how a region lags another."""
