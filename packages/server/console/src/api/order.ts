/** Drops answers that a later request's answer has overtaken. */

/** Return a function to call at each request. What it returns is true at the answer unless a later one came first. */
export function requestOrder(): () => () => boolean {
  let [sent, answered] = [0, 0];
  return () => {
    const number = (sent += 1);
    return () => {
      if (number < answered) return false;
      answered = number;
      return true;
    };
  };
}
