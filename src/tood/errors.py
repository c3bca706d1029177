"""The one exception a user is meant to read."""


class UserError(Exception):
    """Something the user can put right: one clear sentence naming the file, the field and what to do.

    The command line prints the message without a traceback (unless ``--debug``) and exits with 2.
    """
