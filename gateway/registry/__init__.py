"""Plugin states, holds, requests, consents, keys and the history of grants, in SQLite; plugin folders."""
