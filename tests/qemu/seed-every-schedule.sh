# name: eight threads reap a thousand children, whatever the schedule
# seeds: 1-100
/usr/lib/naiad/tests/seed
