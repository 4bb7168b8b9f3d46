"""Answers in progress: one run for each question, its chains, votes and snapshots.

It must not know Gradio, nor more of the model than `run.RunningModel`.
"""
