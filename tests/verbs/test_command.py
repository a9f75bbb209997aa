"""A mistake in the input ends in one line, also one that JAX meets on its way."""

import jax
import jax.numpy as jnp

from mtpret_jax.cli import command


def test_what_jax_notes_of_tracebacks_is_not_told(capsys):
    def refuse(image):
        raise ValueError("use another side.")

    def body():
        jax.jit(refuse)(jnp.zeros(2))

    assert command.call(body, verbosity=0) == command.MISTAKE

    told = capsys.readouterr().err
    assert told == "Error: use another side. (--verbosity=1 shows where.)\n"


def test_what_we_note_is_told(capsys):
    def body():
        error = ValueError("no such set.")
        error.add_note("In run 'one'.")
        raise error

    assert command.call(body, verbosity=0) == command.MISTAKE
    assert "no such set. In run 'one'." in capsys.readouterr().err
