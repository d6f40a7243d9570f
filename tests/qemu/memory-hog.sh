# name: programs that take all of memory die, the largest first, and others go on
# args: --timeout 120
cd /tmp
# What the shell says of the killed is left out: for some of them it does, for some not.
exec 2> /dev/null
tail /dev/zero
echo a hog: $?
tail /dev/zero &
one=$!
tail /dev/zero &
two=$!
for i in $(seq 1 20); do seq 1 500 | sort -rn | head -1; done | uniq -c | tr -s ' '
wait $one; echo first of two: $?
wait $two; echo second of two: $?
# Who has taken most and sleeps is no obstacle to others.
sh -c 'x=$(head -c 30000000 /dev/zero | tr "\0" x); kill -STOP $$; echo not reached ${#x}' &
sleep 1
tail /dev/zero
echo beside a sleeper: $?
kill -KILL %%
wait
seq 1 10000 | md5sum
