#!/bin/bash
# Runs inside of the container that test_systemd.py boots: installs the service, breaks it, and writes down what it saw.
set -eux
exec 2> /srv/told/trace

export PYTHONPATH=/srv/gridnode:/srv/gridnode/dashboard:/srv/gridnode/web:/srv/libraries HOME=/root
gridnode() { /usr/bin/python3 -m gridnode "$@"; }
show() { systemctl show gridnode -p ActiveState,SubState,StatusText,Result,NRestarts,LoadState; }
ask() { curl --silent --retry 50 --retry-delay 1 --retry-connrefused "http://127.0.0.1:7337$1"; }
pid() { systemctl show gridnode -p MainPID --value; }
until_restarted() {
  for _ in $(seq 600); do
    [ "$(systemctl show gridnode -p NRestarts --value)" = "$1" ] && systemctl is-active --quiet gridnode && return
    sleep 0.2
  done
  return 1
}

mkdir -p /etc/gridnode /etc/systemd/system/gridnode.service.d
cat > /etc/gridnode/config.toml << END
[serve]
model = "/srv/model"
[limits]
threads = 1
[node]
name = "Ada"
END
echo "PYTHONPATH=$PYTHONPATH" > /etc/gridnode/service.env
# Nobody wants to wait a minute for it.
printf '[Service]\nWatchdogSec=10\n' > /etc/systemd/system/gridnode.service.d/test.conf

gridnode service install
systemctl start gridnode # waits until it is ready
show > /srv/told/started
ask /ready > /srv/told/ready
echo "$(ps -o user= -p "$(pid)") $(stat -L -c %a /var/lib/gridnode)" > /srv/told/user
journalctl -u gridnode -o json LOGGER=gridnode.node.balancer > /srv/told/journal
gridnode doctor service --json > /srv/told/doctor

sed -i 's/Ada/Bo/' /etc/gridnode/config.toml
systemctl reload gridnode
for _ in $(seq 50); do
  ask /api/v1/status > /srv/told/reloaded
  grep -q '"public_name":"Bo"' /srv/told/reloaded && break
  sleep 0.2
done

kill -STOP "$(pid)"
until_restarted 1
show > /srv/told/hung
journalctl -u gridnode -o cat | grep -i watchdog > /srv/told/watchdog

kill -KILL "$(pid)"
until_restarted 2
show > /srv/told/died

systemctl stop gridnode
show > /srv/told/stopped
ls /var/lib/gridnode/* > /srv/told/kept
gridnode service uninstall
show > /srv/told/removed
echo done > /srv/told/end
