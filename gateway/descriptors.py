"""How many connections this process can hold open: as many as the kernel gives it descriptors for."""

import resource

MOST_CONNECTIONS = 12_288  # of strangers too, at each TCP address
KEPT_BACK = 2_048  # descriptors for the log, cells, plugins' connections and the unix socket
ENOUGH = MOST_CONNECTIONS + KEPT_BACK


def raise_limit() -> int:
    """Let this process have the descriptors that connections may need, where its hard limit lets it; gives how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(ENOUGH, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return limit()


def limit() -> int:
    """Give how many descriptors this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ENOUGH if soft == resource.RLIM_INFINITY else soft


def room() -> int:
    """Give how many connections an address may hold, so that descriptors are left for everything else."""
    return max(min(MOST_CONNECTIONS, limit() - KEPT_BACK), limit() // 4)
