# name: every server goes on in another image while programs run, and what cannot take over is refused
# args: --images
# expect-status: 0
cd /tmp
(
  i=0
  while [ $i -lt 60 ]; do
    echo "line $i" | tr a-z A-Z | sed 's/LINE/row/' > part
    cat part; rm part
    i=$((i+1))
  done | md5sum > sum
) &
for s in vm blk tty tmpfs ufs procfs vfs proc; do
  upgrade $s && echo "$s $(sed -n 's/.*\(upgraded .*\)/\1/p' /proc/naiad/servers/$s/status)"
done
wait; cat sum
echo crash > /proc/naiad/servers/vfs/ctl
sed -n 's/.*\(upgraded .*\)/\1/p' /proc/naiad/servers/vfs/status
upgrade vfs /boot/tty 2>&1
printf '#!/bin/sh\n' > script; upgrade vfs script 2>&1
head -c 100000 /boot/vfs > half; upgrade vfs half 2>&1
head -c 3000000 /dev/zero > long; upgrade vfs long 2>&1
upgrade root /boot/tty 2>&1
upgrade vfs /nothing 2>&1
upgrade tmpfs - && echo back
echo a b | tr a b
