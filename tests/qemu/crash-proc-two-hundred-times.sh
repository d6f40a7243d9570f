# name: proc dies two hundred times at moments that follow from a seed, and no program notices
# seeds: 1-3
# Each time it dies right after some trap of its own, up to the sixtieth from now, of the old run or of its repetition.
cd /tmp
awk 'BEGIN { srand(7); for (i = 0; i < 4000; i++) print int(rand() * 60) }' > moments
ctl=/proc/naiad/servers/proc
while read moment; do
  while read key value; do [ "$key" = incarnation: ] && incarnation=$value; done < $ctl/status
  [ $incarnation -gt 200 ] && break
  echo crash $moment > $ctl/ctl
done < moments &
killer=$!
wanted=$(/usr/lib/naiad/tests/seed | md5sum)
rounds=0
while kill -0 $killer 2>/dev/null; do
  got=$(/usr/lib/naiad/tests/seed 300 $rounds | sed 's/ 300 / 1000 /' | md5sum)
  [ "$got" = "$wanted" ] || echo "seed differs in round $rounds"
  got=$(seq 1 50 | while read n; do echo $n | cat; done | sort -n | tail -1)
  [ "$got" = 50 ] || echo "pipeline differs in round $rounds"
  rounds=$((rounds + 1))
done
/usr/lib/naiad/tests/seed
[ $(sed -n 's/^incarnation: *//p' /proc/naiad/servers/proc/status) -gt 200 ] && echo "200 deaths and more"
