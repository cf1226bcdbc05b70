"""What every objective is, whatever it learns from: a frozen record of settings that are named."""

import dataclasses

import pytest


def check_record(term):
    parameters = dataclasses.fields(term)
    assert all(field.kw_only for field in parameters)
    if parameters:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(term, parameters[0].name, 1)
    assert dataclasses.replace(term) == term
