"""Trial of a method before it trains: what it would lose in silence is found on a few made-up objects and refused."""
