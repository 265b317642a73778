import { spawn } from 'node:child_process'

/** Shows a text to whoever sits at this machine, if there is a desktop and a way to. */
export function notifyUser(text: string): void {
  const { DISPLAY, WAYLAND_DISPLAY, DBUS_SESSION_BUS_ADDRESS } = process.env
  if ([DISPLAY, WAYLAND_DISPLAY, DBUS_SESSION_BUS_ADDRESS].every((each) => (each ?? '') === '')) {
    return
  }
  const child = spawn('notify-send', ['--app-name=hyperparcel', 'hyperparcel', text], {
    stdio: 'ignore',
    timeout: 10_000
  })
  // It is on most desktops, and not needed on any.
  child.on('error', () => {})
  child.unref()
}
