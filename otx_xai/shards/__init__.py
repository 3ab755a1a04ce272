"""One run in parts, by several processes on any number of machines that see the same storage.

::

    plan.jsonl ──► shards/00003/ (journal, manifest, lock) ──► parts/00003.jsonl ──► predictions.jsonl, run.json

The plan is written once, by whoever comes first, and read by everybody. A shard is explained as a run of its own; its
pictures go to their places in the folder of the whole run, and then one atomic file says that it is done. The merge
gives byte for byte what one process would have written, apart from times.
"""
