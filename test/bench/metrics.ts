/** What can be measured. Smaller is better, except where `isMore` says so. */
export interface Metric {
  title: string
  digits: number
  /** What a value is divided by for the table. */
  scale: number
  isMore: boolean
}

const seconds = (title: string): Metric => ({ title, digits: 2, scale: 1, isMore: false })
const megabytes = (title: string): Metric => ({ title, digits: 1, scale: 1e6, isMore: false })
const count = (title: string, digits = 0): Metric => ({ title, digits, scale: 1, isMore: false })

/** Times in seconds, sizes in bytes, before `scale`. */
export const METRICS = {
  wall: seconds('wall s'),
  cpu: seconds('CPU s'),
  stored: megabytes('stored MB'),
  rss: { title: 'peak RSS MiB', digits: 0, scale: 1_048_576, isMore: false },
  speed: { title: 'MB/s of data', digits: 0, scale: 1e6, isMore: true },
  wire: megabytes('wire MB'),
  perCpu: { title: 'MB per CPU s', digits: 0, scale: 1e6, isMore: true },
  written: megabytes('written MB'),
  times: count('written ÷ stored', 2),
  chunks: count('chunks'),
  perChunk: count('index bytes a chunk', 1),
  newBytes: megabytes('new MB'),
  ofFirst: count('wire ÷ first', 2),
  ofLink: { title: '% of the link', digits: 1, scale: 0.01, isMore: true },
  share: { title: '% new', digits: 2, scale: 0.01, isMore: false }
} satisfies Record<string, Metric>

export type MetricName = keyof typeof METRICS

export function isMetric(name: string): name is MetricName {
  return name in METRICS
}

/** What one run of one tool gave. */
export type Values = Partial<Record<MetricName, number>>

export function metricsOf(values: Values): MetricName[] {
  return Object.keys(values).filter(isMetric)
}
