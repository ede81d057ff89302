"""Webhooks: who is told of a job's end, and how, after Standard Webhooks (standardwebhooks.com).

``signing`` knows secrets and signatures, ``endpoints`` who wants to be told, ``deliveries`` what
was sent to whom, ``attempts`` and ``sending`` how one attempt goes. Events and deliveries are
written with the job's end, and their states changed, by ``shared.steps``; only what is pending for
an endpoint that is disabled fails with it, in ``endpoints``.
"""
