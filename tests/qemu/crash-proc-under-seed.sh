# name: proc is killed again and again while eight threads reap a thousand children
# expect-status: 0
(for i in $(seq 20); do
  echo crash > /proc/naiad/servers/proc/ctl
  usleep 20000
done) &
/usr/lib/naiad/tests/seed
wait
seq 1 200 | while read n; do echo $n | cat; done | md5sum
sed -n 's/^incarnation: *//p' /proc/naiad/servers/proc/status
