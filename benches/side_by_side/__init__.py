"""What the scripts in benches/ share: the balancers, the servers behind them, the load, and how results are printed.

    processes   starting, counting and stopping programs
    nginx       the parts of an nginx configuration that its two roles share
    balancers   lb, HAProxy and nginx, configured alike
    drain       stands in for the syslog daemon that HAProxy writes to
    origins     the two servers behind the balancers
    load        the works, and wrk and h2load, which do them
    report      tables, medians and ratios
    command     the options and the course of every script
"""
