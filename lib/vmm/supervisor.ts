// The process of one running machine: supervisor.js SPEC, or supervisor.js later RUN_DIR [images].
import { LATER, prepareImages } from '../export/launch.js'
import { WITH_IMAGES } from './run-dir.js'

const [, , argument, runDir = '', what] = process.argv
// It comes up while the rest is loaded.
const images = argument === LATER && what === WITH_IMAGES ? prepareImages(runDir) : null
const { supervise } = await import('./supervise.js')
await supervise(images)
