#!/bin/busybox sh
# The first process of a guest: puts the host's file system, which cannot be written, below a layer in memory, mounts
# what a running system has, runs /out/run.sh in it, leaves its exit status in /out/status, and switches the guest off.
# `guest.cgroups=1` or `=2` on the kernel's command line says which cgroups there are.
PATH=/bin
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /host /layer /root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec > /dev/console 2>&1

give_up() {
	echo "guest: $*"
	poweroff -f
}

for module in /modules/*; do
	insmod "$module" || echo "guest: $module does not load"
done

# Each message is cleared to its full size on 5.10, which is slow in an emulated machine.
share="trans=virtio,version=9p2000.L,msize=32768"
mount -t 9p -o "$share,ro,cache=loose" host /host || give_up "no file system of the host"
mount -t tmpfs -o size=75% tmpfs /layer
mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work overlay /root || give_up "no overlay"
mkdir -p /root/out /root/proc /root/sys /root/dev /root/run /root/tmp
mount -t 9p -o "$share,cache=none" out /root/out || give_up "no folder for results"

mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mount -t devtmpfs devtmpfs /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts devpts /root/dev/pts
mount -t tmpfs tmpfs /root/dev/shm
mount -t tmpfs tmpfs /root/run
ln -sf /proc/self/fd /root/dev/fd
mount -t tracefs tracefs /root/sys/kernel/tracing
mount -t bpf bpf /root/sys/fs/bpf

groups=/root/sys/fs/cgroup
if grep -q guest.cgroups=1 /proc/cmdline; then
	mount -t tmpfs tmpfs $groups
	for controller in cpu cpuacct memory cpuset pids perf_event; do
		mkdir $groups/$controller
		mount -t cgroup -o $controller cgroup $groups/$controller || rmdir $groups/$controller
	done
else
	mount -t cgroup2 cgroup2 $groups
fi

ip link set lo up
hostname guest
chroot /root /bin/sh /out/run.sh < /dev/null > /root/out/run.log 2>&1
echo $? > /root/out/status
sync
poweroff -f
