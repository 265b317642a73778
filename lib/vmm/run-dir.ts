/** Names in the folder that a supervisor and the daemon share while a machine runs. */
export const SOCKET = 'machine.sock'
/** Left behind by a machine that ended: why; empty when it was asked to. */
export const LAST_WORDS = 'ended'
/** To a supervisor that is started before it is known what it is to run: it will have images to serve. */
export const WITH_IMAGES = 'images'
