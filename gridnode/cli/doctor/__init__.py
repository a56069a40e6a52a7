"""`gridnode doctor`: facts are collected (`*_facts`), checks judge them, and a verdict says what follows.

A check is a pure function from facts to findings; facts come from the same code that plans and serves.
"""
