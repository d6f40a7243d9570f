# name: every server crashes once and the shell goes on
# expect-status: 0
cd /tmp
for s in blk ufs tty tmpfs procfs vfs proc vm; do
  echo crash > /proc/naiad/servers/$s/ctl
  echo "$s $(sed -n 's/^incarnation: *//p' /proc/naiad/servers/$s/status)"
  echo a b | tr a b | cat > f; cat f; rm f
done
