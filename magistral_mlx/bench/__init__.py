"""How fast it is: tokens a second beside what the machine's memory allows, and beside others."""
