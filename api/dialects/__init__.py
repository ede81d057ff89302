"""Dialects: the APIs of other services, so that their clients need another base URL and key only.

A dialect is a folder: its routes, the form of its errors, and tables that say of each parameter
what becomes of it. Its module ``dialect`` has the one ``Dialect``, which ``installed`` lists. A
dialect translates and does nothing else: it submits jobs and reads transcripts through the
functions that the native routes use.

| module | |
| --- | --- |
| ``dialect`` | what a dialect is |
| ``parameters`` | the tables, and the check of requests by them |
| ``models`` | what the vendor's names of models mean here |
| ``installed`` | all dialects, added to the application |
"""
