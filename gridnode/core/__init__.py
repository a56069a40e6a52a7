"""Pure records and policies: what a swarm is and what to do about it."""
