"""The command line: a file for each command, the options they share, and what they show.

A command reads its options into values, calls the rooms below, and prints what they return. No
other room imports this one.
"""
