# name: all servers together die two hundred times at moments that follow from a seed, and no program notices
# seeds: 1-3
# Each death comes right after some trap of that server's, up to the fortieth from now.
cd /tmp
awk 'BEGIN {
  srand(11)
  for (i = 0; i < 9000; i++) {
    split("blk ufs tty tmpfs procfs vfs proc vm root", names)
    print names[i % 9 + 1], int(rand() * 40)
  }
}' > deaths
deaths() {
  sum=0
  least=200
  while read name killed crashed; do
    [ $name = server ] && continue
    sum=$((sum + killed + crashed))
    [ $killed -lt $least ] && least=$killed
  done < /proc/naiad/crashes
}
while read server moment; do
  echo crash $moment > /proc/naiad/servers/$server/ctl
  deaths
  [ $sum -ge 200 ] && [ $least -ge 5 ] && break
done < deaths &
killer=$!
work() {
  /usr/lib/naiad/tests/seed 200 $1
  seq 1 500 | sort -r | tee numbers | md5sum
  mkdir -p a/b && cp numbers a/b && mv a c && md5sum < c/b/numbers && rm -r c numbers
  cat /usr/lib/naiad/tests/w* | md5sum
  find / -xdev | wc -l
  echo "lines typed out by $(uname -s)" | while read line; do echo "$line"; done
}
wanted=$(work 0)
rounds=0
while kill -0 $killer 2>/dev/null; do
  got=$(work $rounds)
  [ "$got" = "$wanted" ] || echo "round $rounds differs: $got"
  rounds=$((rounds + 1))
done
/usr/lib/naiad/tests/seed
deaths
[ $sum -ge 200 ] && echo "200 deaths and more"
awk '
  NR > 1 && $3 > 0 { print $1, "died", $3, "times of its own" }
  NR > 1 && $2 < 5 { print $1, "was killed only", $2, "times" }
' /proc/naiad/crashes
