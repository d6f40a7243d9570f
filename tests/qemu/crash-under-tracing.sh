# name: proc and vm die again and again while programs trace each other, and neither tracer nor traced notices
cd /tmp
wanted=$(/usr/lib/naiad/tests/trace | md5sum)
for round in 1 2 3; do
  while :; do
    for server in proc vm; do echo crash 37 > /proc/naiad/servers/$server/ctl; done
  done &
  killer=$!
  for program in trace wait_ptrace signal_reading masks clocks; do
    /usr/lib/naiad/tests/$program > out || echo "$program fails"
    grep -v '^ok' out
  done
  [ "$(/usr/lib/naiad/tests/trace | md5sum)" = "$wanted" ] || echo "trace differs in round $round"
  kill $killer
  wait $killer
done 2>/dev/null
[ $(sed -n 's/^incarnation: *//p' /proc/naiad/servers/proc/status) -gt 50 ] && echo "many deaths"
