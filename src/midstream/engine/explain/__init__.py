"""Request ids and past moments come in, explanations and features made by child processes go out."""
